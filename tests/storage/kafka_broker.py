"""A Kafka broker of its own for tests: one node on loopback, from the jars of `make kafka`.

`KAFKA_JARS` names their folder. Beside plain text it listens for names and secrets (PLAIN), for
those over TLS (SCRAM), and for clients with certificates; keys are made for it in its folder. Who
asks at `behind` is sent to `far`, where a test may have put a bad line that leads to `behind`.
"""

import base64
import os
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.processes.own_server import OwnServer
from tests.processes.ports import free_ports
from tests.storage.kafka_keys import Keys

SECRET, WRONG = "a-secret-for-tests", "another-secret"

_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{plain},SASL://127.0.0.1:{sasl},SCRAM://127.0.0.1:{scram},\
  MUTUAL://127.0.0.1:{mutual},FAR://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL://127.0.0.1:{sasl},\
  SCRAM://127.0.0.1:{scram},MUTUAL://127.0.0.1:{mutual},FAR://127.0.0.1:{far}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,SCRAM:SASL_SSL,MUTUAL:SSL,\
  FAR:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.name.sasl.sasl.enabled.mechanisms=PLAIN
listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512
listener.name.scram.scram-sha-256.sasl.jaas.config=\
  org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.scram.scram-sha-512.sasl.jaas.config=\
  org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.mutual.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.sasl.plain.sasl.jaas.config=\\
  org.apache.kafka.common.security.plain.PlainLoginModule required user_ada="{secret}";
log.dirs={folder}/data
default.replication.factor=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
"""


@dataclass
class KafkaBroker(OwnServer):
    """One broker; see `OwnServer`. `port` is that of plain text."""

    jars: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self._java = [
            *("java", "-Xmx256m", "-XX:+UseSerialGC", "-cp"),
            f"{Path(self.jars).resolve()}/*",
        ]
        sasl, scram, mutual, controller, self.behind, self.far = free_ports(6)
        self.address, self.sasl_address = f"127.0.0.1:{self.port}", f"127.0.0.1:{sasl}"
        self.scram_address, self.mutual_address = f"127.0.0.1:{scram}", f"127.0.0.1:{mutual}"
        self.keys = Keys(self.folder)
        self.keys.make("broker", address="127.0.0.1")
        self._config = self.folder / "server.properties"
        self._config.write_text(
            _PROPERTIES.format(
                plain=self.port,
                sasl=sasl,
                scram=scram,
                mutual=mutual,
                behind=self.behind,
                far=self.far,
                controller=controller,
                folder=self.folder,
                secret=SECRET,
            )
        )
        # A letter first: one that begins with a dash would be read as an option.
        cluster = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        formatting = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._config)]
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            formatting += ["--add-scram", f"{mechanism}=[name=ada,password={SECRET}]"]
        subprocess.run([*self._java, *formatting], check=True, capture_output=True)

    def command(self) -> Sequence[str]:
        """Its storage was formatted when it was made."""
        return [*self._java, "kafka.Kafka", str(self._config)]


def missing() -> str:
    """Call this for why no broker can be had; empty when one can."""
    if os.environ.get("KAFKA_BROKERS"):
        return ""
    if not os.environ.get("KAFKA_JARS"):
        return "not run: no Kafka; `make kafka` fetches and runs one, KAFKA_BROKERS names another"
    return "" if shutil.which("java") else "not run: no Java"
