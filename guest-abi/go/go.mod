module sanderling

go 1.24
