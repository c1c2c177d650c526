# /// script
# dependencies = ["nox", "nox-buildstages"]
# ///
import nox_buildstages

nox_buildstages.register()
