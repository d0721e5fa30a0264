"""What the benchmarks compare against: compositions of public calls of other libraries that do the same work."""
