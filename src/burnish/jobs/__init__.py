"""Where a job runs; today in this process."""
