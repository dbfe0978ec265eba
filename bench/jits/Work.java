// Work for a Java virtual machine's compiler: numbers, virtual calls, arrays, strings. Prints one checksum.
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

public final class Work {
  private static int checksum;

  private static void note(long value) {
    checksum = checksum * 31 + (int) value;
  }

  private static final class Body {
    double x, y, z, vx, vy, vz, mass;
  }

  // Bodies that attract each other.
  private static long bodies(int steps) {
    Body[] all = new Body[5];
    for (int i = 0; i < all.length; ++i) {
      Body body = all[i] = new Body();
      body.x = i * 1.5;
      body.y = i * i * 0.3;
      body.z = i & 1;
      body.vy = 0.1 * i;
      body.mass = 1 + i;
    }
    for (int step = 0; step < steps; ++step) {
      for (int i = 0; i < all.length; ++i) {
        Body a = all[i];
        for (int j = i + 1; j < all.length; ++j) {
          Body b = all[j];
          double dx = a.x - b.x, dy = a.y - b.y, dz = a.z - b.z;
          double square = dx * dx + dy * dy + dz * dz + 0.01, pull = 0.001 / (square * Math.sqrt(square));
          a.vx -= dx * b.mass * pull;
          a.vy -= dy * b.mass * pull;
          a.vz -= dz * b.mass * pull;
          b.vx += dx * a.mass * pull;
          b.vy += dy * a.mass * pull;
          b.vz += dz * a.mass * pull;
        }
      }
      for (Body a : all) {
        a.x += a.vx * 0.01;
        a.y += a.vy * 0.01;
        a.z += a.vz * 0.01;
      }
    }
    double sum = 0;
    for (Body a : all) sum += a.x * 1000;
    return (long) sum;
  }

  // Calls whose target depends on the object.
  private interface Shape {
    int area();
  }

  private record Circle(int r) implements Shape {
    public int area() {
      return 3 * r * r;
    }
  }

  private record Box(int w, int h) implements Shape {
    public int area() {
      return w * h;
    }
  }

  private record Frame(int w, int h) implements Shape {
    public int area() {
      return w * h - (w - 2) * (h - 2);
    }
  }

  private static long shapes(int rounds) {
    long sum = 0;
    for (int round = 0; round < rounds; ++round) {
      Shape[] list = new Shape[300];
      for (int i = 0; i < list.length; ++i) list[i] = i % 3 == 0 ? new Circle(i) : i % 3 == 1 ? new Box(i, i + round) : new Frame(i + 3, 7);
      Arrays.sort(list, (a, b) -> Integer.compare(a.area(), b.area()));
      sum += list[round % list.length].area();
    }
    return sum;
  }

  private static long sieve(int limit) {
    boolean[] composite = new boolean[limit];
    int count = 0;
    for (int i = 2; i < limit; ++i) {
      if (composite[i]) continue;
      ++count;
      for (long j = 2L * i; j < limit; j += i) composite[(int) j] = true;
    }
    return count;
  }

  private static long words(int rounds) {
    Map<String, Integer> counts = new HashMap<>();
    for (int i = 0; i < rounds; ++i) {
      String text = new StringBuilder("item-").append(i % 97).append('-').append(i * 7 % 13).toString();
      for (String word : text.split("-")) counts.merge(word, 1, Integer::sum);
    }
    long sum = 0;
    for (Map.Entry<String, Integer> entry : counts.entrySet()) sum += (long) entry.getKey().length() * entry.getValue();
    return sum;
  }

  public static void main(String[] arguments) {
    int size = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 1;
    note(bodies(40000 * size));
    note(shapes(150 * size));
    note(sieve(1200000 * size));
    note(words(30000 * size));
    System.out.println("checksum " + Integer.toUnsignedString(checksum));
  }
}
