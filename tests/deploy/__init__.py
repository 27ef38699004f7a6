"""What is shipped for hosts and clusters, each part read by its own tool and by us."""
