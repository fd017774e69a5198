"""Routes of the API, one file per family of paths. Each declares rows for the endpoint table."""
