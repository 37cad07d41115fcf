"""Facts of the installation that some clients ask for."""


def get_package_name_and_version_info() -> tuple[str, str, str]:
    """The name of the distribution, the version of the API, and the version of CUDA: none."""
    from .. import __version__  # noqa: PLC0415  (the package imports this module)

    return "onnxruntime", __version__, ""


def check_distro_info() -> None:
    """Does nothing: any distribution will do."""
