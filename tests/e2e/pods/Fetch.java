// A GET and a POST over HttpURLConnection (which keeps the connection), as often as asked, each answer's body on a line.
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URL;

public class Fetch {
  public static void main(String[] args) throws Exception {
    int times = args.length > 1 ? Integer.parseInt(args[1]) : 1;
    for (int turn = 0; turn < 2 * times; turn++) {
      String method = turn % 2 == 0 ? "GET" : "POST";
      HttpURLConnection connection = (HttpURLConnection) new URL(args[0]).openConnection();
      connection.setRequestMethod(method);
      connection.setReadTimeout(10000);
      if (method.equals("POST")) {
        connection.setDoOutput(true);
        connection.getOutputStream().write(new byte[100000]);
      }
      try (InputStream body = connection.getInputStream()) {
        System.out.println(new String(body.readAllBytes()));
      }
    }
  }
}
