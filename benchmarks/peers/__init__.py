"""This pack beside other ways to run the same model: time and memory."""
