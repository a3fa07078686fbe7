"""What Piccolo calls an app: where the migrations are, and the tables that they should lead to."""

from typing import Final

from piccolo.conf.apps import AppConfig, table_finder

from styx.store import schema

APP_CONFIG: Final = AppConfig(
    app_name=schema.APP,
    migrations_folder_path=str(schema.MIGRATIONS),
    table_classes=table_finder(["styx.store.tables"], exclude_imported=True),
)
