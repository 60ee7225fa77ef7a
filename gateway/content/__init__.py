"""Content: cleanup, the one door into the spool; header scan, missing headers, header and body checks."""
