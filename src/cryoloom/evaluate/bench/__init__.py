"""Benchmarks: tables of numbers measured through the installed command, written as JSON, shown on one page."""
