from styx.sdk import AsyncStyx as AsyncStyx
from styx.sdk import Styx as Styx
from styx.sdk import TaskFailed as TaskFailed
from styx.sdk import job as job
from styx.sdk import task as task

__version__: str
