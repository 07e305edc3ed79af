package peers;

import java.nio.ByteBuffer;

/**
 * The rule that makes an anomaly, and all that it remembers of a stream: the same as in programs/job.py, bit for bit.
 *
 * <p>One object serves all streams: load, judge, store.
 */
public final class Statistics {
    public static final int BYTES = 8 + 2 * 8;
    private static final double WEIGHT = 0.02; // of a reading in mean and variance; the first fifty count alike
    private static final long WARM_UP = 8; // readings of a stream that are not judged
    private static final double LIMIT = 3; // standard deviations

    public long count;
    public double mean;
    public double variance;

    /** Takes in a value and returns its distance from the mean before it, in standard deviations. */
    public double judge(double value) {
        double delta = value - mean;
        double score = count >= WARM_UP && variance > 0 ? Math.abs(delta) / Math.sqrt(variance) : 0;
        double weight = Math.max(1.0 / (count + 1), WEIGHT);
        count++;
        mean += weight * delta;
        variance = (1.0 - weight) * (variance + weight * delta * delta);
        return score;
    }

    public static boolean anomalous(double score) {
        return score > LIMIT;
    }

    public void clear() {
        count = 0;
        mean = 0;
        variance = 0;
    }

    public void load(ByteBuffer from) {
        count = from.getLong();
        mean = from.getDouble();
        variance = from.getDouble();
    }

    public void store(ByteBuffer to) {
        to.putLong(count).putDouble(mean).putDouble(variance);
    }
}
