module conformance

go 1.24

require sanderling v0.0.0

replace sanderling => ../../go
