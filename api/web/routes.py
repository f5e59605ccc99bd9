"""The web page: one HTML shell for all of its views, and the files it is made of.

The shell is public and holds no data: what it shows comes from `/v1`, with the visitor's API key where keys
are on.
"""

import json
import posixpath
import re
from functools import cache
from importlib import resources

from flask import Blueprint, Response, make_response, render_template, request, send_from_directory
from werkzeug.exceptions import HTTPException, NotFound

from api.context import services
from api.http import problems
from api.http.security_headers import HEADERS
from api.web.limits import limits
from shared.version import VERSION

# The search view asks where the visitor is, when he wants what lies near; no other page may.
_PERMISSIONS = HEADERS["Permissions-Policy"].replace("geolocation=()", "geolocation=(self)")
_STATIC = resources.files("api.web") / "static"
_IMPORTED = re.compile(r'^(?:import|export) [^"]*"(\.{1,2}/[^"]+)";', re.MULTILINE)

_KINDS = (problems.PROBLEM_JSON, "text/html")  # the first for whoever takes either

blueprint = Blueprint("page", __name__, template_folder="templates")


@blueprint.get("/", defaults={"view": "search"})
@blueprint.get("/ingest", defaults={"view": "ingest"})
@blueprint.get("/jobs", defaults={"view": "jobs"})
@blueprint.get("/jobs/<job_id>", defaults={"view": "jobs"})
@blueprint.get("/sources", defaults={"view": "sources"})
@blueprint.get("/duplicates", defaults={"view": "duplicates"})
@blueprint.get("/system", defaults={"view": "system"})
def shell(view: str, job_id: str | None = None) -> Response:
    response = _shell(view)
    response.add_etag()
    response.make_conditional(request)
    return response


@blueprint.app_errorhandler(NotFound)
def no_page(error: NotFound) -> Response | HTTPException:
    """Answer a path that nothing has: a browser gets a page with ways on, a program a problem."""
    is_page = (
        not request.path.startswith("/v1") and request.accept_mimetypes.best_match(_KINDS) == "text/html"
    )
    if not is_page:
        return problems.http_problem(error)
    response = _shell("no_page")
    response.status_code = 404
    return response


def _shell(view: str) -> Response:
    """Return the shell, which names what this view needs; the scripts choose it by the address."""
    page = render_template(
        "page.html",
        view=view,
        server=json.dumps({"version": VERSION, "limits": limits(services().settings)}),
        modules=modules_of("shell/main.js", f"{view}/{view}.js"),
    )
    response = make_response(page)
    response.headers["Permissions-Policy"] = _PERMISSIONS
    response.headers["Cache-Control"] = "no-cache"
    return response


@cache
def modules_of(*names: str) -> list[str]:
    """List these modules and all that they import, so that a browser need not find one by another."""
    found = list(names)
    for name in found:
        folder = name.rpartition("/")[0]
        for path in _IMPORTED.findall((_STATIC / name).read_text("utf-8")):
            imported = posixpath.normpath(f"{folder}/{path}")
            if imported not in found:
                found.append(imported)
    return found


@blueprint.get("/manifest.webmanifest")
def manifest() -> Response:
    return _file("shell/manifest.webmanifest")


@blueprint.get("/static/<path:name>")
def static(name: str) -> Response:
    return _file(name)


def _file(name: str) -> Response:
    # Asked for anew each time, since a module's name stays when it changes; mostly that is a 304.
    response = send_from_directory(str(_STATIC), name)
    response.headers["Cache-Control"] = "no-cache"
    return response
