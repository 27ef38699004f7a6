"""What an agent that wants out would try. Runs inside the job with the standard library alone, and nothing of ours."""
