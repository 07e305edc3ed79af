package peers;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * Counts what a peer judges, and times it; the same as Account in programs/job.py.
 *
 * <p>The first fifth is not timed: compilers, caches and the first flush of a store are then through. One thread judges;
 * another may wait.
 */
public final class Account {
    private static final long IDLE_S = 30; // without a reading: those that are missing will not come

    private final int readings;
    private final CountDownLatch all = new CountDownLatch(1);
    private volatile int judged;
    private int anomalies;
    private int next;
    private int untimed;
    private long began;
    private long ended;

    public Account(int readings) {
        this.readings = readings;
        this.next = readings / 5;
    }

    public void judged(boolean anomalous) {
        int now = judged + 1;
        judged = now;
        if (anomalous) {
            anomalies++;
        }
        if (now >= next) {
            mark(now);
        }
    }

    private void mark(int now) {
        ended = System.nanoTime();
        if (began == 0) {
            began = ended;
            untimed = now;
            next = readings;
        } else {
            all.countDown();
        }
    }

    /** Returns once every reading was judged, or when no more of them come. */
    public void await() throws InterruptedException {
        int before = -1;
        while (!all.await(IDLE_S, TimeUnit.SECONDS) && judged != before) {
            before = judged;
        }
    }

    /** Prints the account as the last line of the program; ends it with 1 unless every reading was judged once. */
    public void close() {
        System.out.printf(
                "{\"judged\": %d, \"anomalies\": %d, \"timed\": %d, \"seconds\": %s}%n",
                judged, anomalies, judged - untimed, (ended - began) / 1e9);
        System.out.flush();
        if (judged != readings) {
            System.err.printf("judged %,d readings, expected %,d%n", judged, readings);
        }
        System.exit(judged == readings ? 0 : 1);
    }
}
