"""Speed, memory and quality beside what people use today: `python -m benchmarks`, or `python -m benchmarks.NAME`."""
