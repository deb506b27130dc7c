"""Where flag sets are written; each store passes the same contract."""
