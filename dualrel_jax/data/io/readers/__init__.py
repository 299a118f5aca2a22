"""One lazy reader for each file format; `volumes.open_volume` chooses among them."""
