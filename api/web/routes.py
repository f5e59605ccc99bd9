"""The web page: one HTML shell for all of its views, and the files it is made of.

The shell is public and holds no data: what it shows comes from `/v1`, with the visitor's API key where keys
are on.
"""

from importlib import resources

from flask import Blueprint, Response, make_response, render_template, request, send_from_directory

from api.http.security_headers import HEADERS

# The search view asks where the visitor is, when he wants what lies near; no other page may.
_PERMISSIONS = HEADERS["Permissions-Policy"].replace("geolocation=()", "geolocation=(self)")
_FOLDER = str(resources.files("api.web") / "static")

blueprint = Blueprint("page", __name__, template_folder="templates")


@blueprint.get("/")
@blueprint.get("/ingest")
@blueprint.get("/jobs")
@blueprint.get("/jobs/<job_id>")
@blueprint.get("/system")
def shell(job_id: str | None = None) -> Response:
    """Return the page's shell, the same for every view, which the script chooses by the address."""
    response = make_response(render_template("page.html"))
    response.headers["Permissions-Policy"] = _PERMISSIONS
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response


@blueprint.get("/manifest.webmanifest")
def manifest() -> Response:
    return _file("manifest.webmanifest")


@blueprint.get("/static/<path:name>")
def static(name: str) -> Response:
    return _file(name)


def _file(name: str) -> Response:
    # Asked for anew each time, since a module's name stays when it changes; mostly that is a 304.
    response = send_from_directory(_FOLDER, name)
    response.headers["Cache-Control"] = "no-cache"
    return response
