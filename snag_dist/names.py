"""Names read from files of others (manifests, indices, pointers): they must not lead out of their folder."""


def stays_inside(name: str) -> bool:
    """Tell whether a name is that of a file below a folder, however that folder is joined with it.

    Args:
        name: as a manifest or an index has it, parts separated by `/`.

    Returns:
        False for nothing, an absolute path, a part that is empty, `.` or `..`, and for characters that another system
        reads as a separator or a drive.
    """
    if any(character in name for character in "\\:\0"):
        return False
    return all(part not in ("", ".", "..") for part in name.split("/"))


def is_plain(name: str) -> bool:
    """Tell whether a name is that of one entry of a folder, and nothing below it."""
    return "/" not in name and stays_inside(name)
