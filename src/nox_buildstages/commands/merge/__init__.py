"""`build-stages-merge`: merge several wheelhouses."""
