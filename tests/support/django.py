"""A real Django project: the seven migrations of the mobile sync system, in releases of its own."""

import shutil
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SETTINGS = """
import os
SECRET_KEY = "of-a-test"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.postgres", "core", "voice_recognition"]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": os.environ["APP_DB"],
    "HOST": os.environ["APP_DB_HOST"], "PORT": os.environ["APP_DB_PORT"], "USER": "%s",
    "OPTIONS": {%s},
}}
"""
MANAGE = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
ORDER = (
    "core.0010_sync_idempotency_record",
    "core.0011_tenant_conflict_policy",
    "core.0012_sync_analytics_models",
    "core.0013_upload_session",
    "core.0014_sync_device_health",
    "core.0015_conflict_resolution_log",
    "voice_recognition.0001_voice_verification_log",
)
_HEAD = """
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
class Migration(migrations.Migration):
    atomic = {atomic}
    dependencies = {needs}
    operations = [
        {operations}
    ]
"""
_ID = '("id", models.BigAutoField(primary_key=True))'


def create(name: str, *fields: str, indexes: str = "") -> str:
    """Write the operation that creates a model."""
    options = f', options={{"indexes": [{indexes}]}}' if indexes else ""
    return f'migrations.CreateModel("{name}", [{", ".join((_ID, *fields))}]{options}),'


def sql(statement: str, back: str = "") -> str:
    """Write an operation that is SQL."""
    return f"migrations.RunSQL({statement!r}, {back!r}),"


_TENANT = '("tenant", models.ForeignKey("core.Tenant", models.CASCADE))'
BASE = create("Tenant", '("name", models.CharField(max_length=100))')
SEVEN: Mapping[str, str] = {
    ORDER[0]: create(
        "SyncIdempotencyRecord",
        '("idempotency_key", models.CharField(max_length=64, unique=True))',
        '("expires_at", models.DateTimeField())',
        _TENANT,
        indexes='models.Index(fields=["expires_at"], name="sync_expires_idx")',
    ),
    ORDER[1]: create("TenantConflictPolicy", '("domain", models.CharField(max_length=50))', _TENANT)
    + '\n        migrations.AddField("Tenant", "sync_note", models.TextField(null=True)),',
    ORDER[2]: create("SyncAnalyticsSnapshot", '("timestamp", models.DateTimeField())', _TENANT),
    ORDER[3]: create("UploadSession", '("upload_id", models.UUIDField(unique=True))'),
    ORDER[4]: create("SyncDeviceHealth", '("health_score", models.FloatField())', _TENANT),
    ORDER[5]: create("ConflictResolutionLog", '("resolved_at", models.DateTimeField())', _TENANT),
    ORDER[6]: create("VoiceVerificationLog", '("confidence", models.FloatField(null=True))'),
}
"""What each of the seven does; one of them touches a table that is in use."""


@dataclass
class Project:
    """Writes releases of the project into archives. `url`: how its database is reached."""

    folder: Path
    database: str
    host: str
    port: int
    binaries: Path
    role: str = "owner"
    options: str = ""
    files: dict[str, str] = field(default_factory=dict)

    @property
    def manage(self) -> str:
        """The command that a service of the inventory names."""
        where = f"APP_DB={self.database} APP_DB_HOST={self.host} APP_DB_PORT={self.port}"
        return f"env {where} {sys.executable} -B manage.py"

    def release(
        self,
        name: str,
        more: Mapping[str, str],
        alone: tuple[str, ...] = (),
        after: Mapping[str, Sequence[str]] | None = None,
    ) -> Path:
        """Write a release with the base and these migrations after it, in this order.

        `after`: what a migration comes after, where that is not the one before it.
        """
        every = {"core.0009_base": BASE, **more}
        last: dict[str, tuple[str, str]] = {}
        files = {
            "manage.py": MANAGE,
            "settings.py": SETTINGS % (self.role, self.options),
            **self.files,
        }
        before: list[tuple[str, str]] = []
        for one, operations in every.items():
            app, _, own = one.partition(".")
            needs = list(dict.fromkeys([*([last[app]] if app in last else []), *before[-1:]]))
            if after and one in after:
                needs = [(name.partition(".")[0], name.partition(".")[2]) for name in after[one]]
            files[f"{app}/__init__.py"] = files[f"{app}/migrations/__init__.py"] = ""
            files[f"{app}/migrations/{own}.py"] = _HEAD.format(
                atomic=one not in alone, needs=needs, operations=operations
            )
            before.append((app, own))
            last[app] = (app, own)
        for app in ("core", "voice_recognition"):
            files.setdefault(f"{app}/__init__.py", "")
            files.setdefault(f"{app}/models.py", "")
        folder = self.folder / f"release.{name}"
        shutil.rmtree(folder, ignore_errors=True)
        for file, text in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
        path = self.folder / f"{name}.tar"
        with tarfile.open(path, "w") as archive:
            for entry in sorted(folder.iterdir()):
                archive.add(entry, entry.name)
        return path


INDEX = 'AddIndexConcurrently("Tenant", models.Index(fields=["sync_note"], name="note_idx")),'
NOTE = 'migrations.AddField("Tenant", "note", models.TextField(null=True)),'
