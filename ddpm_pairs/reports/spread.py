"""Choose images that represent a whole folder."""


def spread(count: int, most: int) -> list[int]:
    """Choose evenly spaced indices, always including the first and the last.

    Args:
        count: Number of items.
        most: Maximum number of indices, at least 1.

    Returns:
        At most ``most`` of the numbers 0 to ``count - 1``, in order.
    """
    if count <= most:
        return list(range(count))
    return [0] if most == 1 else [round(i * (count - 1) / (most - 1)) for i in range(most)]
