"""The supabase Management API for one project, its SQL executed by a real PostgreSQL."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.real.standins.content import content_routes
from tests.real.standins.http import Handler, Request, Response, StandIn, json_response

PROJECT_REF = "abcdefghijklmnopqrst"
ORGANIZATION_ID = "test-organization"
ANON_KEY = "anon-key-of-the-test-project"

_ORGANIZATION = {
    "id": ORGANIZATION_ID,
    "slug": ORGANIZATION_ID,
    "name": "Test organization",
    "plan": "free",
    "opt_in_tags": [],
    "allowed_release_channels": ["ga"],
}
_PROJECT = {
    "id": PROJECT_REF,
    "ref": PROJECT_REF,
    "organization_id": ORGANIZATION_ID,
    "organization_slug": ORGANIZATION_ID,
    "name": "Test project",
    "region": "eu-central-1",
    "status": "ACTIVE_HEALTHY",
    "created_at": "2026-01-01T00:00:00.000Z",
    "database": {
        "host": "db.invalid",
        "version": "15.0",
        "postgres_engine": "15",
        "release_channel": "ga",
    },
}
_MIGRATIONS = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (
    version text primary key, name text not null, statements text[] not null
);
"""


def supabase_stand_in(access_token: str, dsn: str) -> StandIn:
    """The API of one organization with one project; every request must carry `access_token`.

    `dsn`: the database that plays the project's. The documentation search is part of it.
    """
    database = _Database(dsn)
    project: dict[str, Handler] = {
        "GET /v1/projects/{ref}": lambda _: json_response(_PROJECT),
        "POST /v1/projects/{ref}/database/query": database.query,
        "GET /v1/projects/{ref}/database/migrations": database.list_migrations,
        "POST /v1/projects/{ref}/database/migrations": database.apply_migration,
        "GET /v1/projects/{ref}/api-keys": lambda _: json_response(
            [{"name": "anon", "type": "legacy", "id": "anon", "api_key": ANON_KEY}]
        ),
        "GET /v1/projects/{ref}/api-keys/legacy": lambda _: json_response({"enabled": True}),
        "GET /v1/projects/{ref}/advisors/{kind}": lambda _: json_response({"lints": []}),
        "GET /v1/projects/{ref}/analytics/endpoints/{which}": lambda _: json_response(
            {"result": [], "error": None}
        ),
        "GET /v1/projects/{ref}/functions": lambda _: json_response([]),
        "GET /v1/projects/{ref}/branches": lambda _: json_response([]),
        "GET /v1/projects/{ref}/types/typescript": lambda _: json_response(
            {"types": "export type Database = {}"}
        ),
    }
    return StandIn(
        {
            "GET /v1/organizations": lambda _: json_response([_ORGANIZATION]),
            "GET /v1/organizations/{slug}": lambda _: json_response(_ORGANIZATION),
            "GET /v1/projects": lambda _: json_response([_PROJECT]),
            **{key: _of_the_project(handler) for key, handler in project.items()},
            **content_routes(),
        },
        bearer=access_token,
        open_routes=content_routes().keys(),
    )


def _of_the_project(handler: Handler) -> Handler:
    def check(request: Request) -> Response:
        if request.path_values["ref"] != PROJECT_REF:
            return json_response({"message": "Project not found"}, 404)
        return handler(request)

    return check


class _Database:
    """The routes that execute SQL. Each request has a connection and a transaction of its own."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def query(self, request: Request) -> Response:
        body = request.json()
        return self._answer(
            lambda cursor: _last_rows(cursor, body["query"], body.get("parameters")),
            read_only=bool(body.get("read_only")),
            status=201,
        )

    def list_migrations(self, _: Request) -> Response:
        return self._answer(
            lambda cursor: _last_rows(
                cursor,
                f"{_MIGRATIONS} select version, name from supabase_migrations.schema_migrations"
                " order by version",
            )
        )

    def apply_migration(self, request: Request) -> Response:
        body = request.json()
        # The service's versions end at the second; these must differ within one.
        version = dt.datetime.now(dt.UTC).strftime("%Y%m%d%H%M%S%f")

        def apply(cursor: psycopg.RawCursor[dict[str, Any]]) -> list[dict[str, Any]]:
            cursor.execute(_MIGRATIONS)
            cursor.execute(body["query"])
            cursor.execute(
                "insert into supabase_migrations.schema_migrations values ($1, $2, $3)",
                [version, body.get("name", ""), [body["query"]]],
            )
            return []

        return self._answer(apply)

    def _answer(
        self,
        run: Callable[[psycopg.RawCursor[dict[str, Any]]], list[dict[str, Any]]],
        *,
        read_only: bool = False,
        status: int = 200,
    ) -> Response:
        try:
            with psycopg.connect(self._dsn) as connection:
                connection.read_only = read_only
                with psycopg.RawCursor(connection, row_factory=dict_row) as cursor:
                    return json_response(run(cursor), status)
        except psycopg.Error as error:
            message = f"Failed to run sql query: ERROR:  {error.sqlstate}: {error}"
            return json_response({"message": message}, 400)


def _last_rows(
    cursor: psycopg.RawCursor[dict[str, Any]], sql: str, parameters: list[Any] | None = None
) -> list[dict[str, Any]]:
    """The rows of the last statement in `sql`, whose parameters are written `$1`, `$2`, ..."""
    cursor.execute(sql, parameters or None)
    while cursor.nextset():
        pass
    return cursor.fetchall() if cursor.description is not None else []
