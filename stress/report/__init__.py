"""Reports: live and plain progress on standard error, results on standard output and in files."""
