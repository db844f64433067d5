# SPDX-License-Identifier: Apache-2.0
"""Nurseries raise groups, which may be nested; people want to read one error."""

from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def first_of_group(group: BaseExceptionGroup[E]) -> E:
    """The first error of `group`, however deep it lies."""
    error = group.exceptions[0]
    return first_of_group(error) if isinstance(error, BaseExceptionGroup) else error
