package peers;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/**
 * An LSTM cell of 64 units with one input, and the head that says what comes next.
 *
 * <p>Written so that the JIT compiles every loop to vector instructions: loops over units inside, weights column by
 * column, tanh as a ratio of polynomials in place of a call. One object serves all streams: load, step, store.
 */
public final class Lstm {
    public static final int HIDDEN = 64;
    public static final int BYTES = 2 * HIDDEN * Float.BYTES;
    private static final int GATES = 4 * HIDDEN;

    private final float[] fromInput = new float[GATES];
    private final float[][] fromHidden = new float[HIDDEN][GATES]; // a column each: what one unit gives to all gates
    private final float[] bias = new float[GATES];
    private final float[] head = new float[HIDDEN];
    private final float headBias;

    private final float[] hidden = new float[HIDDEN];
    private final float[] cell = new float[HIDDEN];
    private final float[] gates = new float[GATES];
    private final float[] scratch = new float[HIDDEN];

    /** Reads weights in the order of torch.nn.LSTMCell and Linear: gates are input, forget, candidate, output. */
    public Lstm(Path weights) throws IOException {
        FloatBuffer numbers =
                ByteBuffer.wrap(Files.readAllBytes(weights)).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
        numbers.get(fromInput);
        for (int gate = 0; gate < GATES; gate++) {
            for (int unit = 0; unit < HIDDEN; unit++) {
                fromHidden[unit][gate] = numbers.get();
            }
        }
        for (int bias = 0; bias < 2; bias++) {
            for (int gate = 0; gate < GATES; gate++) {
                this.bias[gate] += numbers.get();
            }
        }
        numbers.get(head);
        headBias = numbers.get();
    }

    /** What is expected of the next reading. */
    public double expected() {
        float sum = headBias;
        for (int unit = 0; unit < HIDDEN; unit++) {
            sum += head[unit] * hidden[unit];
        }
        return sum;
    }

    public void step(float input) {
        for (int gate = 0; gate < GATES; gate++) {
            gates[gate] = bias[gate] + fromInput[gate] * input;
        }
        for (int unit = 0; unit < HIDDEN; unit += 4) {
            addColumns(unit);
        }
        sigmoid(gates, 0, 2 * HIDDEN);
        tanh(gates, 2 * HIDDEN, 3 * HIDDEN);
        sigmoid(gates, 3 * HIDDEN, 4 * HIDDEN);
        for (int unit = 0; unit < HIDDEN; unit++) {
            cell[unit] = gates[HIDDEN + unit] * cell[unit] + gates[unit] * gates[2 * HIDDEN + unit];
        }
        System.arraycopy(cell, 0, scratch, 0, HIDDEN);
        tanh(scratch, 0, HIDDEN);
        for (int unit = 0; unit < HIDDEN; unit++) {
            hidden[unit] = gates[3 * HIDDEN + unit] * scratch[unit];
        }
    }

    /** Four units at a time: the gates are loaded and stored a quarter as often. */
    private void addColumns(int unit) {
        float[] gates = this.gates;
        float[] a = fromHidden[unit];
        float[] b = fromHidden[unit + 1];
        float[] c = fromHidden[unit + 2];
        float[] d = fromHidden[unit + 3];
        float ha = hidden[unit];
        float hb = hidden[unit + 1];
        float hc = hidden[unit + 2];
        float hd = hidden[unit + 3];
        for (int gate = 0; gate < GATES; gate++) {
            gates[gate] += a[gate] * ha + b[gate] * hb + c[gate] * hc + d[gate] * hd;
        }
    }

    private static void sigmoid(float[] x, int from, int to) {
        for (int n = from; n < to; n++) {
            x[n] *= 0.5f;
        }
        tanh(x, from, to);
        for (int n = from; n < to; n++) {
            x[n] = 0.5f + 0.5f * x[n];
        }
    }

    /** Lambert's continued fraction for tanh, cut off after x^9: 8e-6 off at most, with a bound of 6. */
    private static void tanh(float[] x, int from, int to) {
        for (int n = from; n < to; n++) {
            float v = Math.max(-6f, Math.min(6f, x[n]));
            float s = v * v;
            x[n] = v * (34459425f + s * (4729725f + s * (135135f + s * (990f + s))))
                    / (34459425f + s * (16216200f + s * (945945f + s * (13860f + s * 45f))));
        }
    }

    public void clear() {
        Arrays.fill(hidden, 0);
        Arrays.fill(cell, 0);
    }

    public void load(ByteBuffer from) {
        FloatBuffer floats = from.asFloatBuffer();
        floats.get(hidden).get(cell);
        from.position(from.position() + BYTES);
    }

    public void store(ByteBuffer to) {
        to.asFloatBuffer().put(hidden).put(cell);
        to.position(to.position() + BYTES);
    }
}
