"""What every sink and every upstream has to hold to, as checks that anybody can run."""
