from types import CodeType, FrameType
from typing import Any, Optional

class World:
    def swap(self) -> None: ...

def entered(frame: FrameType, until: Optional[CodeType] = None, marked: Optional[CodeType] = None) -> list[Any]: ...
