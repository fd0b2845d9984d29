"""The endpoints: parse, call, frame."""
