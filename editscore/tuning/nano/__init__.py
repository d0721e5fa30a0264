"""The recipe of the embedded nano judge: `python -m editscore.tuning.nano` (`make nano`)."""
