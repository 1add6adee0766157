"""One file per system. `ALL` in the order of the table's columns."""

from systems.chariot import Chariot, ChariotPython, Limit
from systems.memcached import Memcached
from systems.mooncake import Mooncake
from systems.redis import Redis
from systems.yuanrong import Yuanrong

ALL = [
    Limit(), Chariot(), ChariotPython(),
    Redis("native"), Redis("python"),
    Memcached("native"), Memcached("python"),
    Mooncake("native"), Mooncake("python"),
    Yuanrong("native"), Yuanrong("python"),
]
