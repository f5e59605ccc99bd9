"""The Celery workers and the sweeper. Imports `shared`, neither `api` nor `deploy`."""
