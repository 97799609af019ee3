"""One file per reward family; a file here is all it takes to be listed, documented and tested."""
