// A GET and a POST over HttpURLConnection (which keeps the connection), each answer's body on a line.
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URL;

public class Fetch {
  public static void main(String[] args) throws Exception {
    for (String method : new String[] {"GET", "POST"}) {
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
