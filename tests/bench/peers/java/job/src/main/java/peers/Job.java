package peers;

import java.nio.file.Path;

/** What the runner asks for. folder: empty, for state on disk. weights: the file of the LSTM's. */
public record Job(
        String servers, String topic, String anomalies, String group, int readings, Path folder, Path weights) {

    /** Reads "--name value" pairs, all of which must be there. */
    public static Job of(String[] arguments) {
        return new Job(
                find(arguments, "--servers"),
                find(arguments, "--topic"),
                find(arguments, "--anomalies"),
                find(arguments, "--group"),
                Integer.parseInt(find(arguments, "--readings")),
                Path.of(find(arguments, "--folder")),
                Path.of(find(arguments, "--weights")));
    }

    private static String find(String[] arguments, String name) {
        for (int n = 0; n + 1 < arguments.length; n += 2) {
            if (arguments[n].equals(name)) {
                return arguments[n + 1];
            }
        }
        throw new IllegalArgumentException(name + " is missing: python -m tests.bench.peers starts this program");
    }
}
