# /// script
# dependencies = ["nox", "nox-buildstages"]
# ///
import nox
import nox_buildstages


@nox_buildstages.stage(outputs=["tables @ ./tables"])
def generate(session: nox.Session, build: nox_buildstages.Build) -> None:
    """Write the C code of tables, and compile it."""
    session.run("python", "tables/generate.py", env=build.env)
    (wheel,) = build()
    session.log(f"{wheel.name}: {wheel.size} bytes")


nox_buildstages.register()
