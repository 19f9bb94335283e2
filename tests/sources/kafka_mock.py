"""librdkafka's mock cluster with its faults, which the Python package does not show: called in the library it brings along."""

import ctypes
from pathlib import Path
from types import TracebackType
from typing import Self

import confluent_kafka
from confluent_kafka import Consumer, Producer, TopicPartition

PARTITIONS = 4
BROKERS = 3
FETCH, OFFSET_COMMIT, HEARTBEAT = 1, 8, 12  # of Kafka's requests
NOT_LEADER, TIMED_OUT, NOT_COORDINATOR, ILLEGAL_GENERATION, UNKNOWN_MEMBER = 6, 7, 16, 22, 25  # of its errors
_PRODUCER = 0
_TEXT_BYTES = 512


def _library() -> ctypes.CDLL:
    libraries = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
    library = ctypes.CDLL(str(next(libraries.glob("librdkafka*"))))
    pointer, number = ctypes.c_void_p, ctypes.c_int
    for name, result, arguments in (
        ("conf_new", pointer, []),
        ("new", pointer, [number, pointer, ctypes.c_char_p, ctypes.c_size_t]),
        ("destroy", None, [pointer]),
        ("mock_cluster_new", pointer, [pointer, number]),
        ("mock_cluster_destroy", None, [pointer]),
        ("mock_cluster_bootstraps", ctypes.c_char_p, [pointer]),
        ("mock_topic_create", number, [pointer, ctypes.c_char_p, number, number]),
        ("mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
        (
            "mock_push_request_errors_array",
            None,
            [pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(number)],
        ),
        ("mock_broker_set_down", number, [pointer, ctypes.c_int32]),
        ("mock_broker_set_up", number, [pointer, ctypes.c_int32]),
        ("mock_coordinator_set", number, [pointer, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int32]),
        ("mock_partition_set_leader", number, [pointer, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32]),
    ):
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class MockKafka:
    """Three brokers in this process."""

    def __init__(self) -> None:
        self._library = library = _library()
        said = ctypes.create_string_buffer(_TEXT_BYTES)
        self._client = library.rd_kafka_new(_PRODUCER, library.rd_kafka_conf_new(), said, _TEXT_BYTES)
        assert self._client, said.value
        self._cluster = library.rd_kafka_mock_cluster_new(self._client, BROKERS)
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.brokers: str = library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self._topics = 0
        self.producer = Producer({"bootstrap.servers": self.brokers, "log_level": 0})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)

    def topic(self) -> str:
        """A new one."""
        self._topics += 1
        name = f"usage-{self._topics}"
        assert not self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), PARTITIONS, BROKERS)
        return name

    def send(self, topic: str, numbers: range) -> None:
        """An event a number, to the partitions in turn."""
        for number in numbers:
            body = b'{"id":"%d","type":"t","subject":"c","data":{"n":%d}}' % (number, number)
            self.producer.produce(topic, body, partition=number % PARTITIONS)
        assert self.producer.flush(20) == 0

    def committed(self, group: str, topic: str) -> int:
        """How many messages are behind the group."""
        consumer = Consumer({"bootstrap.servers": self.brokers, "group.id": group})
        found = consumer.committed([TopicPartition(topic, one) for one in range(PARTITIONS)], timeout=10)
        consumer.close()
        return sum(max(0, one.offset) for one in found)

    # -- faults ---------------------------------------------------------------------------------------------------
    def answer_next(self, request: int, *errors: int) -> None:
        """The next requests of this kind are answered with these errors."""
        array = (ctypes.c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, request, len(errors), array)

    def set_down(self, broker: int, *, down: bool) -> None:
        name = "down" if down else "up"
        assert not getattr(self._library, f"rd_kafka_mock_broker_set_{name}")(self._cluster, broker)

    def move_group(self, group: str, broker: int) -> None:
        assert not self._library.rd_kafka_mock_coordinator_set(
            self._cluster, b"group", group.encode(), broker
        )

    def move_partition(self, topic: str, partition: int, broker: int) -> None:
        assert not self._library.rd_kafka_mock_partition_set_leader(
            self._cluster, topic.encode(), partition, broker
        )
