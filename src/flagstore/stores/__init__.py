"""Where a reader reads from; each store is imported only when it is used."""
