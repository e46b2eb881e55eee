"""What is measured, always against a baseline in the same run: these are ratios, not promises of milliseconds."""
