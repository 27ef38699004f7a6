"""What happened: records, journal, bundle, seal, verification."""
