"""Reports for users: contact sheets, HTML pages, tables and summaries."""
