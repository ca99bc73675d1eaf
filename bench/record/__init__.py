"""The node record and what it is made of: the one part of ``bench`` that ``certify`` reads.

Nothing in here may import numpy, torch or a device library: verifiers import it. YAML and what else `petaseal verify`
of a statement does without is imported where it is used: each millisecond here is one of every command.
"""

from bench.record.campaign import Attempt, Campaign, ExpectedNode, ExpectedPool, LeftOutNode, Window
from bench.record.configs import (
    as_config,
    config_names,
    config_path,
    emulation_libraries,
    parse_yaml,
    read_config,
    read_profile,
    read_yaml,
    shape_lists,
)
from bench.record.fields import (
    GRADES,
    Challenge,
    Choice,
    Count,
    DeviceName,
    Document,
    Grade,
    Name,
    PoolClass,
    Positive,
    Ppm,
    Precision,
    Sha256,
    Signed,
    Text,
    UtcTime,
    Workload,
    digest,
    encode,
)
from bench.record.files import exclusive_lock, refuse_existing, replacing, write_atomic
from bench.record.identities import identifier, readable_identifier
from bench.record.interval import SUBWINDOWS, Bounds, bounds_above, throughput_bounds, window_trend
from bench.record.node import (
    RULES_VERSION,
    Device,
    DeviceModel,
    Environment,
    Failure,
    Figure,
    Measurement,
    NodeClock,
    NodeRecord,
    Obtained,
    ReferenceFigure,
    ReferenceMeasurement,
    Tool,
    columns,
    least_operand_bytes,
)
from bench.record.plan import ITEM_BYTES, MINIMUM_WINDOW_NS, REFERENCE_ROLES, Kernels, Profile, Shape, SteadyState
from bench.record.reading import SharedFile, followed, read_bytes, read_given
