import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.opensearch.common.settings.Settings;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.transport.Netty4Plugin;

/** One node of OpenSearch for tests, on loopback. Arguments: a folder, a port, another port. */
class SearchServer {
    static class Alone extends Node {
        Alone(Settings settings) {
            super(InternalSettingsPreparer.prepareEnvironment(
                settings, Map.of(), null, () -> "tests"), List.of(Netty4Plugin.class), false);
        }
    }

    public static void main(String[] given) throws Exception {
        new Alone(Settings.builder()
            .put("path.home", Path.of(given[0]).toString())
            .put("http.port", given[1]).put("transport.port", given[2])
            .put("network.host", "127.0.0.1").put("discovery.type", "single-node")
            .put("transport.type", "netty4").put("http.type", "netty4")
            .put("node.processors", 2).put("cluster.routing.allocation.disk.threshold_enabled", false)
            .build()).start();
        new CountDownLatch(1).await();
    }
}
