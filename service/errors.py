"""What can go wrong, named by what the caller does about it."""


class TelltaleError(Exception):
    """The root. Its message says what was found, what was expected, and where."""


class TaskMigrated(TelltaleError):
    """Another worker owns the partitions, or may: drop every task and poll again."""


class RejectedReading(TelltaleError):
    """A record cannot be read: it becomes a dead letter, its neighbours go on."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class LogUnavailable(TelltaleError):
    """The log cannot be reached or refuses us: end the process, a restart is the recovery."""


class RegistryUnavailable(TelltaleError):
    """A schema registry cannot be reached or refuses us: end the process, as for the log. No record is lost by it."""


class LostState(TelltaleError):
    """What the streams remembered is not there, and the settings say not to go on without: a person decides."""


class RefusedSetting(TelltaleError):
    """A setting is wrong: say which section, what was found and what it should be. Exit 2."""


class RefusedInput(TelltaleError):
    """A file or topic given by a person cannot be used: say where and why. Exit 1."""
