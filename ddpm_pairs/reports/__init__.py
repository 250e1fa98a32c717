"""What users look at after a run: contact sheets, pages, tables and summaries."""
