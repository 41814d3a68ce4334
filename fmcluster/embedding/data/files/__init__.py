"""Files of rows: tables, archives, folders; each kind a reader of raw rows."""
