"""The HTTP API: `app.create_app` is its contents page. Imports `shared`, neither `worker` nor `deploy`."""
