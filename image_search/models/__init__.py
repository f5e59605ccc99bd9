"""What goes into the API's routes and comes out of them, as pydantic models. Imports no other room."""
