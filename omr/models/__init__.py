"""The base model and what becomes of it: brought, patched, proved, converted, averaged, finished."""
