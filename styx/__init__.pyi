from styx.sdk import AsyncStyx as AsyncStyx
from styx.sdk import Styx as Styx
from styx.sdk import TaskFailed as TaskFailed

__version__: str
