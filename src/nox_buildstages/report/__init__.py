"""The report of a run: a page, a Chrome trace, and the data of both."""
